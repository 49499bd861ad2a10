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


class NormNet(Net):
    """A network whose hidden layers are normalised before the ReLU, as torch.nn.LayerNorm does.

    `parameters` holds (W, b) of all layers, then (gain, shift) of every normalisation, as d3g_from_obs.NormMLP does."""

    def forward(self, *inputs):
        self.hidden = (len(self.parameters) - 2) // 4
        x = np.concatenate(inputs, 1)
        self.inputs, self.normal, self.deviation, self.scaled = [], [], [], []
        for i in range(self.hidden):
            weight, bias = self.parameters[2 * i : 2 * i + 2]
            gain, shift = self.parameters[2 * (self.hidden + 1 + i) :][:2]
            self.inputs.append(x)
            z = x @ weight.T + bias
            self.deviation.append(np.sqrt(z.var(axis=1, keepdims=True) + 1e-5))
            self.normal.append((z - z.mean(axis=1, keepdims=True)) / self.deviation[i])
            self.scaled.append(gain * self.normal[i] + shift)
            x = np.maximum(self.scaled[i], 0)
        self.inputs.append(x)
        weight, bias = self.parameters[2 * self.hidden : 2 * self.hidden + 2]
        return x @ weight.T + bias

    def backward(self, grad):
        of_layers = []
        of_norms = []
        for i in range(self.hidden, -1, -1):
            if i < self.hidden:
                grad = grad * (self.scaled[i] > 0)
                of_norms = [(grad * self.normal[i]).sum(0), grad.sum(0), *of_norms]
                grad = grad * self.parameters[2 * (self.hidden + 1 + i)]
                along = (grad * self.normal[i]).mean(axis=1, keepdims=True)
                grad = (grad - grad.mean(axis=1, keepdims=True) - self.normal[i] * along) / self.deviation[i]
            of_layers = [grad.T @ self.inputs[i], grad.sum(0), *of_layers]
            grad = grad @ self.parameters[2 * i]
        return of_layers + of_norms, grad
