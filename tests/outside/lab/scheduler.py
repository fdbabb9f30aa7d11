"""A scheduler: Ray's ASHA, which spares every trial that is among the first few."""

from ray.tune.schedulers import AsyncHyperBandScheduler


class PatientASHA(AsyncHyperBandScheduler):
    def __init__(self, spared: int = 2, **options):
        super().__init__(**options)
        self.spared = spared

    def on_trial_result(self, tune_controller, trial, result):
        decision = super().on_trial_result(tune_controller, trial, result)
        is_spared = int(trial.trial_id[1:]) < self.spared and result["training_iteration"] < self._max_t
        return self.CONTINUE if is_spared else decision
