"""Death at every instruction: one participant under ptrace(2), killed or stopped at each of its points. See __main__.py."""
