"""Where images come from: archives, folders and TFDS data sets, prepared and read."""
