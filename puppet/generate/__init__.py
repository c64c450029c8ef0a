"""Generate: one portrait and one control vector become one picture.

canvas      the portrait framed at the published size
field       what every action and every turn of the head does to every point of it (built once per portrait)
anatomy     how far each action moves each landmark of this portrait; `lids` and `lips` close what has to close
motion      the field at one control, inverted: where each published pixel comes from
picture_edge  hair that the picture's edge cuts off is stretched when the head moves away from it, not continued
slit        mouth and eye openings, where two edges part: both sides' motion and the opening between them
eyes        what shows between the lids: sclera and a whole iris that looks around
mouth       what shows between the lips: teeth, gums and tongue
texture     the place of a learned step that paints what motion uncovers
"""
