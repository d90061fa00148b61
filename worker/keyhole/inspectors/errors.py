"""The one error that an image can cause."""


class ImageFormatError(Exception):
    """An unrecoverable image format error that aborts the inspection.

    It is the image's fault. Any other exception that leaves an inspector is a bug in Keyhole.
    """
