"""What users import: the HTTP client and the version. Nothing else.

This package imports no other part of skep and needs only an HTTP client.
"""

__version__ = "0.1.0"
