"""Eigenvalues of a symmetric operator that is known by its products only: thick-restart Lanczos."""

from collections import namedtuple

import torch
from tqdm import tqdm

SAFETY = 2
"""Residuals are driven this far below the tolerance: an eigenvalue that has not emerged yet shifts those after it."""
ROWS_AT_ONCE = 2**18
"""Coordinates handled at a time when the basis is rotated in place."""

Eigenvalues = namedtuple("Eigenvalues", "values residuals products")
"""Values, largest first, bounds on their errors (both float64), and the products needed."""


class Basis:
    """Orthonormal vectors, grown one product at a time, and the operator projected on them."""

    def __init__(self, product, size, room, dtype, device, generator):
        self.product, self.size, self.generator = product, size, generator
        self.vectors = torch.empty(room + 1, size, dtype=dtype, device=device)
        self.projected = torch.zeros(room, room, dtype=torch.float64)
        self.count, self.beta, self.products = 0, 0.0, 0  # the next vector lies at vectors[count]

    def start(self, direction=None):
        """Put a new direction, random if ``None``, where the next vector goes, orthogonal to all before."""
        if direction is None:
            direction = torch.randn(self.size, generator=self.generator, dtype=torch.float32)
        self.vectors[self.count] = direction.to(self.vectors)
        for _ in range(3):
            self._orthogonalise(self.vectors[self.count], self.count)
            self.vectors[self.count] /= self.vectors[self.count].norm()
        self.beta = 0.0

    def _orthogonalise(self, w, count):
        """Take the first vectors out of w, in place; returns their coefficients."""
        if not count:
            return torch.zeros(0, dtype=torch.float64)
        coefficients = self.vectors[:count] @ w
        torch.addmv(w, self.vectors[:count].T, coefficients, alpha=-1, out=w)
        return coefficients.double().cpu()

    def grow(self):
        """One product: the next vector becomes part of the basis, and a new next one is made."""
        i = self.count
        w = self.product(self.vectors[i]).to(self.vectors)
        self.products += 1
        norm = float(w.norm())
        column = self._orthogonalise(w, i + 1)
        column += self._orthogonalise(w, i + 1)  # twice is enough
        self.projected[: i + 1, i] = self.projected[i, : i + 1] = column
        self.count, self.beta = i + 1, float(w.norm())
        eps = torch.finfo(self.vectors.dtype).eps
        if self.count >= self.size:
            self.beta = 0.0
        elif self.beta <= 10 * eps * max(norm, float(self.projected.abs().max())):
            self.start()  # the span is invariant: go on in what is left
        else:
            self.vectors[self.count] = w / self.beta

    def ritz(self):
        """(values, vectors in the basis, residual bounds) of the projected operator, ascending."""
        block = self.projected[: self.count, : self.count]
        values, rotation = torch.linalg.eigh((block + block.T) / 2)
        return values, rotation, self.beta * rotation[-1].abs()

    def rotate(self, values, rotation, coupled=True):
        """Keep only some Ritz vectors, in place and by chunks, and the direction the basis was growing in."""
        kept, rotation = len(values), rotation.to(self.vectors)
        for begin in range(0, self.size, ROWS_AT_ONCE):
            part = self.vectors[: self.count, begin : begin + ROWS_AT_ONCE]
            self.vectors[:kept, begin : begin + ROWS_AT_ONCE] = rotation.T @ part
        following = self.vectors[self.count].clone()
        coupling = self.beta * rotation[-1].double().cpu()
        self.projected.zero_()
        self.projected[range(kept), range(kept)] = values
        self.count = kept
        if coupled and self.beta:
            self.vectors[kept] = following
            self.projected[kept, :kept] = self.projected[:kept, kept] = coupling
        else:
            self.start()


def extreme(
    product, size, k, *, tol=1e-3, basis=None, seed=0, dtype=torch.float32, device="cpu", max_products=None,
    progress=False,
):  # fmt: skip
    """The k largest eigenvalues, every copy of a multiple one, without ghosts.

    Once they have converged, a random direction is taken in, and the iteration goes on until that has changed
    nothing: so a second copy of an eigenvalue, which one starting vector cannot see, is found.

    Source: Wu & Simon (2000), thick-restart Lanczos; Stewart (2001), Krylov-Schur.
    """
    if not isinstance(tol, int | float) or not 0 < tol < float("inf"):
        raise ValueError(f"tol is {tol!r}; expected a positive number, such as 1e-3 of the largest eigenvalue")
    room = min(size, basis or k + max(20, k // 3))
    if room < min(size, k + 2):
        raise ValueError(f"a basis of {room} vectors is too small for {k} eigenvalues; expected at least {k + 2}")
    space = Basis(product, size, room, dtype, device, torch.Generator().manual_seed(seed))
    space.start()
    known = None
    with tqdm(desc=f"top {k} eigenvalues", unit="product", disable=not progress) as bar:
        while True:
            while space.count < room:
                space.grow()
                bar.update()
            values, rotation, residuals = (each.flip(-1) for each in space.ritz())
            allowed, worst = tol / SAFETY * float(values.abs().max()), float(residuals[:k].max())
            bar.set_postfix(residual=f"{worst:.1e}", goal=f"{allowed:.1e}", refresh=False)
            if space.count >= size:
                break
            same = known is not None and float((values[:k] - known).abs().max()) <= allowed
            below = float(residuals[k]) <= allowed or float(values[k] + residuals[k]) <= float(values[k - 1])
            if worst <= allowed and same and below:
                break
            if max_products is not None and space.products >= max_products:
                why = "that none is missing was not confirmed"
                if worst > allowed:
                    why = f"the largest residual is {worst:.2g}, allowed {allowed:.2g}"
                count = f"{k} eigenvalues did not converge in {space.products} products"
                raise RuntimeError(f"{count}: {why}; raise max_products, tol or basis")
            confirm = worst <= allowed and not same
            if confirm:
                known = values[:k].clone()
            kept = k if confirm else k + max(1, (room - k) // 2)
            space.rotate(values[:kept], rotation[:, :kept], coupled=not confirm)
    return Eigenvalues(values[:k], residuals[:k], space.products)
