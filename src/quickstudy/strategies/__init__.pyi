from .amortized.attentive_neural_process import AttentiveNeuralProcess
from .amortized.cnaps import CNAPS
from .amortized.conditional_neural_process import ConditionalNeuralProcess
from .amortized.hypernetwork import Hypernetwork
from .amortized.in_context import InContextLearner
from .amortized.leo import LEO
from .amortized.portfolio import Portfolio
from .amortized.versa import VERSA
from .amortized.whole_hypernetwork import WholeHypernetwork
from .closed_form.distributional_signatures import DistributionalSignatures
from .closed_form.lrd2 import LRD2
from .closed_form.metaoptnet import MetaOptNet
from .closed_form.r2d2 import R2D2
from .finetune.baseline import Baseline
from .finetune.baseline_plus_plus import BaselinePlusPlus
from .finetune.fine_tuning import FineTuning
from .finetune.logistic_regression import LogisticRegression
from .finetune.nearest_neighbor import NearestNeighbor
from .gradient.anil import ANIL
from .gradient.boil import BOIL
from .gradient.cavia import CAVIA
from .gradient.fomaml import FOMAML
from .gradient.imaml import IMAML
from .gradient.maml import MAML
from .gradient.maml_plus_plus import MAMLPlusPlus
from .gradient.meta_curvature import MetaCurvature
from .gradient.meta_sgd import MetaSGD
from .gradient.proto_maml import ProtoMAML
from .gradient.reptile import Reptile
from .gradient.t_net import TNet
from .metric.feat import FEAT
from .metric.frn import FRN
from .metric.matching_network import MatchingNetwork
from .metric.meta_baseline import MetaBaseline
from .metric.prototypical_network import PrototypicalNetwork
from .metric.relation_network import RelationNetwork
from .metric.simple_cnaps import SimpleCNAPS
from .metric.simple_shot import SimpleShot
from .recurrent.learned_optimizer import LearnedOptimizer
from .recurrent.mann import MANN
from .recurrent.meta_lstm import MetaLSTM
from .recurrent.snail import SNAIL
from .strategy import EmbeddingStrategy, Strategy, Theta
from .transductive.bd_cspn import BDCSPN
from .transductive.laplacian_shot import LaplacianShot
from .transductive.pt_map import PTMAP
from .transductive.tim import TIM
from .transductive.transductive_fine_tuning import TransductiveFineTuning

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
    "NearestNeighbor",
    "Portfolio",
    "ProtoMAML",
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
