"""The list of all patches, in the order in which they are put in place."""

from __future__ import annotations

from rope_deploy.models.patches.attention_and_mask import EAGER_ATTENTION, OWN_ATTENTION
from rope_deploy.models.patches.dense_experts import DENSE_EXPERTS
from rope_deploy.models.patches.dynamic_rotary import DYNAMIC_ROTARY
from rope_deploy.models.patches.gguf_reader import GGUF_READER
from rope_deploy.models.patches.griffin_states import GRIFFIN_STATES
from rope_deploy.models.patches.patch import Patch
from rope_deploy.models.patches.pickle_refused import PICKLE_REFUSED
from rope_deploy.models.patches.recurrent_scans import RECURRENT_SCANS
from rope_deploy.models.patches.two_factor_rotary import TWO_FACTOR_ROTARY
from rope_deploy.models.patches.unwritten_memory import UNWRITTEN_MEMORY
from rope_deploy.models.patches.whole_number_buffers import WHOLE_NUMBER_BUFFERS

PATCHES: tuple[Patch, ...] = (
    GGUF_READER,
    PICKLE_REFUSED,
    UNWRITTEN_MEMORY,
    OWN_ATTENTION,
    EAGER_ATTENTION,
    DYNAMIC_ROTARY,
    TWO_FACTOR_ROTARY,
    GRIFFIN_STATES,
    DENSE_EXPERTS,
    RECURRENT_SCANS,
    WHOLE_NUMBER_BUFFERS,
)
