"""Figures as SpikeInterface widgets. Importing them does not import matplotlib."""

from .evaluation import NuCLREvaluationWidget, plot_nuclr_evaluation
from .matches import NuCLRMatchesWidget, plot_nuclr_matches
from .regressor_evaluation import NuCLRRegressorEvaluationWidget, plot_nuclr_regressor_evaluation
from .units import NuCLREmbeddingWidget, NuCLRIdentityWidget, plot_nuclr_embedding, plot_nuclr_identity

__all__ = [
    "NuCLREmbeddingWidget",
    "NuCLREvaluationWidget",
    "NuCLRIdentityWidget",
    "NuCLRMatchesWidget",
    "NuCLRRegressorEvaluationWidget",
    "plot_nuclr_embedding",
    "plot_nuclr_evaluation",
    "plot_nuclr_identity",
    "plot_nuclr_matches",
    "plot_nuclr_regressor_evaluation",
]
