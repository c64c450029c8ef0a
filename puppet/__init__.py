"""Puppet: join a video call as a portrait.

    from puppet import Puppet

    puppet = Puppet.load("portrait.jpg")
    rgb = puppet.animate(AU12=3, AU45_L=5, yaw_rad=0.2)

Importing the package loads nothing heavy; `Puppet` is imported when it is first asked for.
"""

__version__ = "0.1.0"
__all__ = ["Puppet"]


def __getattr__(name: str):
    if name == "Puppet":
        from puppet.puppet import Puppet

        return Puppet
    raise AttributeError(f"module 'puppet' has no attribute {name!r}")
