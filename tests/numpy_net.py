"""A ReLU network in NumPy with its gradients and Adam by hand, to check the scripts' updates against."""

import numpy as np


class Net:
    """A ReLU network as a list of (W [out, in], b [out]), its backward pass, and its Adam state."""

    def __init__(self, module):
        self.parameters = [p.detach().numpy().copy() for p in module.parameters()]
        self.m = [np.zeros_like(p) for p in self.parameters]
        self.v = [np.zeros_like(p) for p in self.parameters]
        self.t = 0

    def forward(self, *inputs):
        self.activations = [np.concatenate(inputs, 1)]
        for i in range(0, len(self.parameters), 2):
            z = self.activations[-1] @ self.parameters[i].T + self.parameters[i + 1]
            self.activations.append(np.maximum(z, 0) if i + 2 < len(self.parameters) else z)
        return self.activations[-1]

    def backward(self, grad):
        """From dL/d(output) of the last forward pass: dL/d(parameters) and dL/d(input)."""
        grads = []
        for i in range(len(self.parameters) - 2, -1, -2):
            x = self.activations[i // 2]
            grads = [grad.T @ x, grad.sum(0), *grads]
            grad = grad @ self.parameters[i]
            if i:
                grad = grad * (x > 0)
        return grads, grad

    def adam(self, grads, lr):
        self.t += 1
        for i, g in enumerate(grads):
            self.m[i] = 0.9 * self.m[i] + 0.1 * g
            self.v[i] = 0.999 * self.v[i] + 0.001 * g**2
            m_hat, v_hat = self.m[i] / (1 - 0.9**self.t), self.v[i] / (1 - 0.999**self.t)
            self.parameters[i] -= lr * m_hat / (np.sqrt(v_hat) + 1e-8)
