"""Answering from documents: cutting them into chunks, finding the chunks nearest to a question, asking with them."""
