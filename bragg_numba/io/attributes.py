"""Text in HDF5 files, in the one form that every reader takes."""

from __future__ import annotations


def set_attributes(item, **attributes) -> None:
    """Set attributes of an HDF5 object; text is marked as ASCII.

    h5py marks text as UTF-8, and readers that ask HDF5 for ASCII (durin, the XDS plugin of Diamond) then refuse
    the file: HDF5 converts between lengths, not between character sets.
    """
    import h5py

    ascii_text = h5py.string_dtype("ascii")
    for name, value in attributes.items():
        if isinstance(value, str) and value.isascii():
            item.attrs.create(name, value, dtype=ascii_text)
        else:
            item.attrs[name] = as_utf8(value) if isinstance(value, str) else value


def as_utf8(text: str) -> str:
    """Text with file names in it, fit for HDF5: what is not UTF-8, which Linux allows in names, as ``\\udcff``."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
