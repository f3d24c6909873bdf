"""One training step as a program of storages and work, from the shapes of a model and the rules of a run.

`compile_step` (compiler.py) plays each layer's forward pass on a tape, in the order of the library's own code, and then
backward over it, and keeps the instants that can be the highest for any batch, sequence length and rank:

* sizes.py: polynomials in batch, sequence and rank; tape.py: operations and what they keep; simulate.py: what lives.
* rules.py: the run's categorical settings; variants.py: how model classes differ; adapters.py: what PEFT adapts.
* compiler.py: the order of a step; runs.py: equal layers by their role; checkpoints.py: what a checkpoint keeps;
  stacks.py: encoder and decoder; passing.py: layers that read what earlier ones made; standing.py: what lives beside
  the layers; embedding.py and head.py: before and after them; program.py: the result as arrays.
* blocks.py: a layer from its mixers; linear.py, norms.py, activations.py, attention.py, kernels.py, latent.py,
  encoder_decoder.py, per_layer.py, feed_forward.py, experts.py, every_expert.py, recurrent.py, lightning.py: one place
  for each of them; loss.py: head and loss.

tests/planner/step/test_against_trace.py holds the programs of some eighty model types to traces of the real classes.
A block without a program raises NotModelled, which names it.
"""
