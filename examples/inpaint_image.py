"""Fill in what is missing from a photograph

Every second pixel is lost, and a caption was written over the rest. `inpaint` fills them in so that every patch has
few coefficients in a dictionary learned on the image itself, patches overlapping. From left to right: what is
known, the result with the fixed cosine dictionary, with a learned one (0.26 decibels better), and the original.
`tightframe inpaint photo.png --mask scratches.png` does the same for files.
"""

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from sklearn.datasets import load_sample_image

from tightframe.data.pictured.image_files import write_image
from tightframe.dictionary import inpaint, psnr

clean = load_sample_image("china.jpg").mean(axis=2)[120:328, 150:358]
mask = np.random.default_rng(0).random(clean.shape) < 0.5
text = Image.new("1", mask.shape[::-1])
ImageDraw.Draw(text).text((5, 80), "tightframe", fill=1, font=ImageFont.load_default(40))
mask |= np.asarray(text)

cosine = inpaint(clean, mask, dictionary="dct")
learned = inpaint(clean, mask, dictionary="learned")
print(f"missing: {mask.mean():.1%} of the pixels")
for name, image in (("cosine", cosine.image), ("learned", learned.image)):
    print(f"{name:8} PSNR {psnr(image, clean):.2f} dB")

gap = np.full((len(clean), 8), 255.0)
row = np.hstack([np.where(mask, 255, clean), gap, cosine.image, gap, learned.image, gap, clean])
write_image("inpaint_image.png", row, limits=(0, 255))
