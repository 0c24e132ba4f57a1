"""Kubeflow: the numbered notebooks as a pipeline, and the cluster's resources from typed models.

Nothing here is needed to run the notebooks or `jetcorr run`; the modules are imported by the commands that use them.
"""
