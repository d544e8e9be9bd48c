"""The live page: a photograph becomes codes, and sliders move them while one looks.

`lsap-jax studio` serves it, `lsap_jax.studio` shows it in a notebook. Both hand requests of the same script (studio.js)
to the same table, `operations.OPERATIONS`, by `desk`: quick ones at once, long ones in turns. `bench` renders,
`sliders` makes one direction of several, `embedding` finds codes, `session` is what a client has, in memory alone.
`guard` decides who may ask, `app` and `server` speak HTTP, `widget` speaks Jupyter's messages.
"""
