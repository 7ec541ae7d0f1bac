"""Memory of large tables that is used again."""

import torch

from numerai_features.nn._memory import Memory
from numerai_features.nn._products import product
from numerai_features.nn._threads import own_threads


class TestMemory:
    def test_of_a_freed_table_is_used_again(self):
        memory = Memory()
        first = memory.empty((3000, 500), torch.float32)
        place = first.data_ptr()
        other = memory.empty((3000, 500), torch.float32)
        part = first[:2]
        del first
        third = memory.empty((3000, 500), torch.float32)  # a view is still in use
        assert len({place, other.data_ptr(), third.data_ptr()}) == 3
        del part
        again = memory.empty((2500, 1000), torch.bfloat16)
        assert again.data_ptr() // 4096 == place // 4096
        assert again.shape == (2500, 1000)
        assert again.is_contiguous()
        assert again.data_ptr() % 64 == 0

    def test_is_kept_while_a_gradient_needs_it(self):
        a = torch.ones(2000, 700)
        b = torch.ones(700, 600).requires_grad_()
        with own_threads(1):
            h = product(a, b)
            loss = h.square().sum()
            del h
            for _ in range(3):
                product(a, 7 * b.detach())  # would overwrite it
            loss.backward()
        assert (b.grad == 2 * 700 * 2000).all()

    def test_tables_that_grow_do_not_add_up(self):
        memory = Memory()
        for n in range(2000, 4000, 50):
            memory.empty((n, 1000), torch.float32)
        assert sum(map(len, memory._free)) < 2 * 4000 * 4000
