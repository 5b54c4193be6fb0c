"""The blocking calls, generated from `_async`: change that one instead."""
