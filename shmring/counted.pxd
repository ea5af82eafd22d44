# Messages with numbers: how many bytes that is, for who takes messages apart.
cdef enum:
    NUMBER_BYTES = 8
