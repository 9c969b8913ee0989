# SPDX-License-Identifier: BSD-3-Clause
"""Run by run.sh with the Python of an environment that hoft_torch is installed in, from an empty folder:

    python installed.py WHEEL WHEEL

That the two wheels, of the checkout and of its source package, are the same, that what is imported is what was installed,
and that it trains.
"""

import pathlib
import sys
import sysconfig
import zipfile

sys.path.pop(0)  # this folder, in the checkout

import torch  # noqa: E402

import hoft_torch  # noqa: E402


def files(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def check_wheels(first, second):
    first, second = files(first), files(second)
    assert any(name.endswith("LICENSE") for name in first), "no LICENSE is in the wheel"
    assert "hoft_torch/_C.so" in first, "no compiled operators are in the wheel"
    different = [name for name in sorted({*first, *second}) if first.get(name) != second.get(name)]
    # What lists the files may list them in another order.
    different = [name for name in different if not name.endswith("/RECORD") or set(first[name].split()) != set(second[name].split())]
    assert not different, f"the wheels of the checkout and of its source package differ in {', '.join(different)}"


def check_place():
    """One hoft_torch can be found, and it is in the environment."""
    found = [folder for folder in sys.path if pathlib.Path(folder, "hoft_torch").exists()]
    assert found == [sysconfig.get_path("purelib")], f"hoft_torch is in {found}"
    assert pathlib.Path(hoft_torch.__file__).parent == pathlib.Path(found[0], "hoft_torch"), hoft_torch.__file__


def check_training():
    """A layer learns the orthogonal matrix on either side of its weight, and keeps it when it is merged."""
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Linear(24, 16)).requires_grad_(False)
    taught = torch.nn.Sequential(torch.nn.Linear(24, 16)).requires_grad_(False)
    taught.load_state_dict(model.state_dict())
    u, v = torch.randn(2, 16), torch.randn(2, 24)
    taught[0].weight.copy_(hoft_torch.merge(model[0].weight, u, v))
    layers = hoft_torch.wrap(model, rank=4, target=["0"])
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(trained, lr=0.01)
    losses = []
    for _ in range(400):
        x = torch.randn(64, 24)
        loss = (model(x) - taught(x)).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert list(layers) == ["0"] and losses[-1] < losses[0] / 100, f"the loss went from {losses[0]:.3g} to {losses[-1]:.3g}"
    before = model(x).detach()
    after = hoft_torch.unwrap(model)(x)
    assert type(model[0]) is torch.nn.Linear
    assert torch.allclose(before, after, atol=1e-4), f"merging changes outputs by {(before - after).abs().max():.3g}"
    print(f"installed for PyTorch {torch.__version__}: trained from a loss of {losses[0]:.3g} to {losses[-1]:.3g}")


if __name__ == "__main__":
    check_wheels(*sys.argv[1:])
    check_place()
    check_training()
