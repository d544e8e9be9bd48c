"""The files of the page, also from inside a wheel. The script is one ES module, joined from files with a part each."""

from importlib import resources

SCRIPTS = ("elements.js", "ask.js", "stage.js", "cards.js", "studio.js")


def html() -> str:
    """The page around the studio."""
    return _text("studio.html")


def script() -> str:
    """The ES module: `mount` builds a studio, the default export is a widget's."""
    return "\n".join(map(_text, SCRIPTS))


def style() -> str:
    """The style of the studio, in a page or in a notebook."""
    return _text("studio.css")


def _text(name: str) -> str:
    return resources.files("lsap_jax.live").joinpath(name).read_text("utf-8")
