"""What answers are rewarded for: settings, and pure functions that judge a text.

`config` holds the settings, `verifiers` one function a reward, `tasks` the one that asks a row's reasoning-gym task,
`json_schema` what makes a person's schema safe to use.
`judge` is how a language model is asked for its judgement, `endpoint` the one that is asked over the network. Nothing
here needs torch or runs a person's code. Reward models are `polm_core.training.rewards`, and judges that are models
`polm_core.training.judging`.
"""
