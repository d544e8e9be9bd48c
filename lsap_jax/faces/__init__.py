"""Faces: where they are, and pictures brought into the position that generators of faces were trained on.

`detect` finds them by MTCNN's `cascade`, whose resizing is in `area` and whose arithmetic of boxes is in `boxes`;
`choose` picks the one that is meant, or says why none is; `upright` does both and makes sure by a second look, turning
pictures that lie on their sides; `align` cuts the face out as FFHQ's pictures were.
"""
