# Messages with numbers: how many bytes that is, for who takes messages apart.
from shmring._core.count cimport NUMBER_BYTES
