"""A task in one file: how bright the samples are. Its work imports torch when a worker runs it."""

from typing import Literal

from arbench.spec.task import Effort, MetricInfo, Pick, TaskDefinition, TaskSpec
from arbench.spec.unit import cut


class Brightness(TaskSpec):
    task: Literal["brightness"] = "brightness"
    n: int = 16


class Work:
    def measure(self, cell, unit, context):
        from arbench.tasks.outputs import request_for, sampling_of
        from arbench.tasks.sampled import sampled

        generator = context.generator(cell)

        def request(ids):
            return request_for(generator.card, ids, cell.settings.seed, context.device)

        sampling = sampling_of(cell, generator.card)
        images, _ = sampled(generator, range(unit.start, unit.stop), 8, sampling, request)
        return {"brightness": images.mean((1, 2, 3))}

    def finish(self, cell, units, context):
        from arbench.metrics.estimate import mean_with_interval
        from arbench.tasks.base import Finished, joined

        estimate = mean_with_interval(joined(units, "brightness"))
        return Finished((estimate.metric("brightness", "mean of all values, 0 to 255", "levels"),))


TASK = TaskDefinition(
    name="brightness",
    spec=Brightness,
    work="outside.tasks:Work",
    version=1,
    kinds=frozenset({"generator"}),
    group="Looks",
    metrics=(MetricInfo("brightness", "levels", None, "mean of all pixel values"),),
    summary=(Pick("brightness"),),
    units=lambda spec: cut(spec.n),
    effort=lambda spec, rates: Effort(spec.n * rates.image, 8),
)
