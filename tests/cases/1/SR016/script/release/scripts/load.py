import saereg
