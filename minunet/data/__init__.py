"""From a user's arrays to training patches: checks and layout, mask values, normalisation, sampling, augmentation."""
