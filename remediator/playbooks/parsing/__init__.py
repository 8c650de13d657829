"""The steps of loading a file, one module each: text → nodes with places → fragments merged → model → semantics."""
