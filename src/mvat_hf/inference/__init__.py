"""Enhancing recordings.

`enhancing`: arrays and files of any rate and length; `folders`: every recording below a folder; `writing`: the files
that are written; `live`: audio as it comes in.
"""
