"""The only error that an image can cause in an inspector."""


class ImageFormatError(Exception):
    """The image violates its format in a way that prevents further inspection.

    Every other exception that an inspector raises is a bug in Keyhole, not an error in the image.
    """
