"""Faces: where they are, and pictures brought into the position that generators of faces were trained on.

`detect` finds them by MTCNN's `cascade`, whose resizing is in `area` and whose arithmetic of boxes is in `boxes`;
`choose` picks the face that is meant, or says why there is none; `upright` does both, checks the result by a second
search, and turns pictures that lie on their sides; `align` cuts the face out as FFHQ's pictures were; `aligner` does
all of it for one picture, and `aligned_folder` is the folder of `lsap-jax align`.
"""
