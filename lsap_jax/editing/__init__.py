"""Editing: directions, what a strength means, and what lies between two codes.

`edit` applies directions; `moves` has the table of what a strength means, `layers` that of ranges. Directions come from
`random`, `ganspace`, `sefa` and, out of files, `imported`; `styles` takes those of W to StyleSpace. `between`
interpolates and mixes.
"""
