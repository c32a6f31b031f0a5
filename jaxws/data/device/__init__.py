"""Small data sets, in memory: shuffled, cropped and normalised on the device, inside the step."""
