"""NWB extension for neuron embeddings and predicted identities. Defines no types yet, and registers nothing."""

__version__ = "0.1.0"
