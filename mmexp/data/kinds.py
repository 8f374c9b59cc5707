"""What the files of each modality end in."""

from mmexp.data.videos import FILMS

PICTURES = (
    ".png",
    ".jpg",
    ".jpeg",
    ".jpe",
    ".jfif",
    ".webp",
    ".avif",
    ".bmp",
    ".gif",
    ".tif",
    ".tiff",
    ".ppm",
    ".pgm",
    ".pnm",
)
SOUNDS = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".aif", ".au")
# Those of the first one that a folder holds are its rows.
FILES = {"image": PICTURES, "audio": SOUNDS, "video": FILMS}
