"""Towers (encoders of images or sound without positions of their own): their cases, and how one call is compared."""
