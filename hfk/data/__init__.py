"""What happens between a user's file and a batch: reading, splitting, collation, sampling.

Import from the submodules (`hfk.data.reading`, `hfk.data.splitting`, …); this file stays empty so that reading a table
never costs the import of torch.
"""

from __future__ import annotations
