"""Images in, tensors out: readers, masks, integrity checks, fingerprints, toy data, preprocessing.

Reading, checking and fingerprinting need NumPy and Pillow only; torch is first imported by
`harness.data.geometry` and `harness.data.torch_dataset`.
"""

from harness.data.fingerprint import fingerprint
from harness.data.readers import list_categories, read_category
from harness.data.records import Category, DefectConfig, Sample

__all__ = ["Category", "DefectConfig", "Sample", "fingerprint", "list_categories", "read_category"]
