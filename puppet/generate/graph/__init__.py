"""The generator as one graph of tensors: control in, finished picture out, everything between on one device.

A second writing of `puppet.generate` for compilers (TensorRT, CUDA graphs, OpenVINO, ONNX Runtime). It is made from a
prepared `Generator`, whose portrait it holds as constants, and shows the same pictures but for rounding; that NumPy
generator stays the reference that it is checked against. Shapes are static and nothing depends on data but by
arithmetic, so that it can be exported, captured and compiled as a whole.

sampling    pictures read and written at positions that are known only at run time
control     the control vector as weights of the actions and a pose
motion      the head's displacement, turned round
slit        skin on both sides of mouth and eyes, and the opening between
folds       skin that darkens in creases and lightens where it bulges
eyes        what shows between the lids
mouth       what shows between the lips
painter     the texture networks
generator   all of it as one module

This is the one place of the package that imports torch; what uses it imports it when a device was chosen.
"""
