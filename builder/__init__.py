"""Turn an OpenStack release into a signed apt repository."""

__version__ = "0.1.0"
