"""Tests may import the stand-ins, and never reach the network."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
os.environ.update(HF_HUB_OFFLINE="1", WANDB_MODE="offline")
