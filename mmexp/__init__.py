"""mmexp: experiments on multimodal models."""
