"""The only error that an image can cause in an inspector."""


class ImageFormatError(Exception):
    """The image violates its format so that it cannot be inspected further.

    Every other exception that an inspector raises is a bug in Keyhole, not an error in the image.
    """
