"""The steps of reading a file: text → nodes with places → fragments put in → model → meaning. One module each."""
