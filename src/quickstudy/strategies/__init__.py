"""Learning strategies F(support; φ) → θ: one paper, one file, folders by family."""

from quickstudy.strategies.amortized.attentive_neural_process import AttentiveNeuralProcess
from quickstudy.strategies.amortized.cnaps import CNAPS
from quickstudy.strategies.amortized.conditional_neural_process import ConditionalNeuralProcess
from quickstudy.strategies.amortized.hypernetwork import Hypernetwork
from quickstudy.strategies.amortized.in_context import InContextLearner
from quickstudy.strategies.amortized.leo import LEO
from quickstudy.strategies.amortized.portfolio import Portfolio
from quickstudy.strategies.amortized.versa import VERSA
from quickstudy.strategies.amortized.whole_hypernetwork import WholeHypernetwork
from quickstudy.strategies.closed_form.distributional_signatures import DistributionalSignatures
from quickstudy.strategies.closed_form.lrd2 import LRD2
from quickstudy.strategies.closed_form.metaoptnet import MetaOptNet
from quickstudy.strategies.closed_form.r2d2 import R2D2
from quickstudy.strategies.finetune.baseline import Baseline
from quickstudy.strategies.finetune.baseline_plus_plus import BaselinePlusPlus
from quickstudy.strategies.finetune.fine_tuning import FineTuning
from quickstudy.strategies.finetune.logistic_regression import LogisticRegression
from quickstudy.strategies.finetune.nearest_neighbor import NearestNeighbor
from quickstudy.strategies.gradient.anil import ANIL
from quickstudy.strategies.gradient.boil import BOIL
from quickstudy.strategies.gradient.cavia import CAVIA
from quickstudy.strategies.gradient.fomaml import FOMAML
from quickstudy.strategies.gradient.imaml import IMAML
from quickstudy.strategies.gradient.maml import MAML
from quickstudy.strategies.gradient.maml_plus_plus import MAMLPlusPlus
from quickstudy.strategies.gradient.meta_curvature import MetaCurvature
from quickstudy.strategies.gradient.meta_sgd import MetaSGD
from quickstudy.strategies.gradient.proto_maml import ProtoMAML
from quickstudy.strategies.gradient.reptile import Reptile
from quickstudy.strategies.gradient.t_net import TNet
from quickstudy.strategies.metric.approximate_prototype_index import ApproximatePrototypeIndex
from quickstudy.strategies.metric.feat import FEAT
from quickstudy.strategies.metric.frn import FRN
from quickstudy.strategies.metric.matching_network import MatchingNetwork
from quickstudy.strategies.metric.meta_baseline import MetaBaseline
from quickstudy.strategies.metric.prototype_index import Nearest, PrototypeIndex
from quickstudy.strategies.metric.prototypical_network import PrototypicalNetwork
from quickstudy.strategies.metric.relation_network import RelationNetwork
from quickstudy.strategies.metric.simple_cnaps import SimpleCNAPS
from quickstudy.strategies.metric.simple_shot import SimpleShot
from quickstudy.strategies.recurrent.learned_optimizer import LearnedOptimizer
from quickstudy.strategies.recurrent.mann import MANN
from quickstudy.strategies.recurrent.meta_lstm import MetaLSTM
from quickstudy.strategies.recurrent.snail import SNAIL
from quickstudy.strategies.strategy import EmbeddingStrategy, Strategy, Theta
from quickstudy.strategies.transductive.bd_cspn import BDCSPN
from quickstudy.strategies.transductive.laplacian_shot import LaplacianShot
from quickstudy.strategies.transductive.pt_map import PTMAP
from quickstudy.strategies.transductive.tim import TIM
from quickstudy.strategies.transductive.transductive_fine_tuning import TransductiveFineTuning

__all__ = [
    "ANIL",
    "BDCSPN",
    "BOIL",
    "CAVIA",
    "CNAPS",
    "FEAT",
    "FOMAML",
    "FRN",
    "IMAML",
    "LEO",
    "LRD2",
    "MAML",
    "MANN",
    "PTMAP",
    "R2D2",
    "SNAIL",
    "TIM",
    "VERSA",
    "ApproximatePrototypeIndex",
    "AttentiveNeuralProcess",
    "Baseline",
    "BaselinePlusPlus",
    "ConditionalNeuralProcess",
    "DistributionalSignatures",
    "EmbeddingStrategy",
    "FineTuning",
    "Hypernetwork",
    "InContextLearner",
    "LaplacianShot",
    "LearnedOptimizer",
    "LogisticRegression",
    "MAMLPlusPlus",
    "MatchingNetwork",
    "MetaBaseline",
    "MetaCurvature",
    "MetaLSTM",
    "MetaOptNet",
    "MetaSGD",
    "Nearest",
    "NearestNeighbor",
    "Portfolio",
    "ProtoMAML",
    "PrototypeIndex",
    "PrototypicalNetwork",
    "RelationNetwork",
    "Reptile",
    "SimpleCNAPS",
    "SimpleShot",
    "Strategy",
    "TNet",
    "Theta",
    "TransductiveFineTuning",
    "WholeHypernetwork",
]
