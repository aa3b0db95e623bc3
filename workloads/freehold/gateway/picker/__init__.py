"""The endpoint picker: which worker has already read most of this prompt, and has room?"""
