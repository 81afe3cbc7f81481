"""The variational autoencoder and how it is trained."""
