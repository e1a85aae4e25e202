"""What can be told of a neuron without a network: the features that embeddings are compared with."""
