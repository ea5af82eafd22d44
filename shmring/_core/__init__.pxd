# The kernel: inline nogil functions, .pxd only, compiled into each port that cimports them.
# It never touches a Python object, never allocates, never raises: it returns codes (code.pxd) and leaves the facts of a
# failure in a Fault. Nothing outside this folder touches an atomic.
