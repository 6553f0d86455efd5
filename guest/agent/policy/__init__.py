"""The policy: what this guest lets its host do, as Rego rules that the pod's owner wrote (Kata's agent policy).

SetPolicy brings the text of a module of `package agent_policy`. From then on each request of `grpc.AgentService` is
checked before anything is done: the rule with the name of the request's message is evaluated with the request as
`input`, and what is not allowed is PERMISSION_DENIED. Without a policy nothing is checked and nothing is paid.

What a rule gives (as in Kata's agent):

- `true` allows; `false`, or no value because nothing matched or there is no such rule, denies;
- an object `{"allowed": true, "ops": [...]}` allows, and its JSON Patch (RFC 6902) is applied to `data`, of which
  `data.pstate` is the policy's own memory and starts out empty;
- with `AllowRequestsFailingPolicy := true` everything is allowed, and what would have been denied is logged.

SetPolicy is itself a request, and is checked by the policy that it would replace.

The engine is rego-cpp (regopy, Microsoft). It is native code that aborts on some input, so it runs in a process of its
own, made by SetPolicy: `request` (the request as JSON) - `patch` (JSON Patch) - `worker` (runs in that process) -
`engine` (starts it and asks it) - `guard` (decides). Whatever goes wrong on the way denies.
"""
