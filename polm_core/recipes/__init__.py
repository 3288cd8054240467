"""Recipes: methods carried out one after another, each with what the ones before it made. One file per recipe."""
