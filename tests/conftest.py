"""Settings of every test: nothing here depends on how fast the machine is, and examples are drawn alike each time.

`DISTILLKIT_FUZZ=1 make test` draws new ones.
"""

import os

from hypothesis import settings

settings.register_profile("steady", deadline=None, derandomize="DISTILLKIT_FUZZ" not in os.environ)
settings.load_profile("steady")
