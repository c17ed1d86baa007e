"""What diffusers' Euler schedulers and torch's generator give, for every spacing, prediction and number of steps.

python tools/make_sampler_vectors.py --out tests/golden/sampler.json
"""

import argparse
import itertools
import json
from pathlib import Path

import diffusers
import torch
from diffusers import EulerAncestralDiscreteScheduler, EulerDiscreteScheduler


def walk(scheduler, n: int = 8) -> list[float]:
    """The sample after all steps, when the network answers with a fixed function of its input."""
    g = torch.Generator("cpu").manual_seed(1)
    x = torch.randn(n, generator=g) * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        y = torch.sin(scheduler.scale_model_input(x, t))
        x = scheduler.step(y, t, x, generator=g).prev_sample
    return x.tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    cases = []
    for cls, spacing, prediction, schedule, offset in itertools.product(
        (EulerAncestralDiscreteScheduler, EulerDiscreteScheduler),
        ("trailing", "leading", "linspace"),
        ("epsilon", "v_prediction"),
        ("scaled_linear", "linear"),
        (0, 1),
    ):
        if offset and spacing != "leading":
            continue
        config = {
            "timestep_spacing": spacing,
            "prediction_type": prediction,
            "beta_schedule": schedule,
            "steps_offset": offset,
            "beta_start": 0.00085 if schedule == "scaled_linear" else 0.0001,
            "beta_end": 0.012 if schedule == "scaled_linear" else 0.02,
        }
        for steps in (1, 4, 7, 30) if offset == 0 else (3,):
            s = cls(**config)
            s.set_timesteps(steps)
            cases.append(
                {
                    "class": cls.__name__,
                    "config": config,
                    "steps": steps,
                    "timesteps": s.timesteps.tolist(),
                    "sigmas": s.sigmas.tolist(),
                    "init": float(s.init_noise_sigma),
                    "end": walk(s),
                }
            )
    for steps in (2, 9, 50, 999):
        s = EulerDiscreteScheduler(
            final_sigmas_type="sigma_min",
            timestep_spacing="trailing",
            beta_schedule="scaled_linear",
            beta_start=0.00085,
            beta_end=0.012,
        )
        s.set_timesteps(steps)
        if steps < 100:
            cases.append(
                {
                    "class": "EulerDiscreteScheduler",
                    "config": {
                        "final_sigmas_type": "sigma_min",
                        "timestep_spacing": "trailing",
                        "beta_schedule": "scaled_linear",
                        "beta_start": 0.00085,
                        "beta_end": 0.012,
                    },
                    "steps": steps,
                    "timesteps": s.timesteps.tolist(),
                    "sigmas": s.sigmas.tolist(),
                    "init": float(s.init_noise_sigma),
                    "end": walk(s),
                }
            )
    counts = []
    for steps in range(1, 201):
        s = EulerDiscreteScheduler(timestep_spacing="trailing")
        s.set_timesteps(steps)
        counts.append(len(s.timesteps))
    noise = []
    for dtype, n in itertools.product((torch.float32, torch.float16, torch.bfloat16), (5, 15, 16, 17, 20, 35, 64, 99)):
        g = torch.Generator("cpu").manual_seed(n)
        draws = [torch.randn(n, generator=g, dtype=dtype).float().tolist() for _ in range(2)]
        noise.append(
            {"dtype": str(dtype).removeprefix("torch."), "n": n, "seed": n, "first": draws[0], "second": draws[1]}
        )
    out = {
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "trailing_counts": counts,
        "cases": cases,
        "noise": noise,
    }
    args.out.write_text(json.dumps(out, separators=(",", ":")) + "\n", encoding="utf-8")
    print(len(cases), "cases", counts == list(range(1, 201)))


if __name__ == "__main__":
    main()
