"""The queries that numerapi does not have, or not by themselves."""

DATASET = """
query($filename: String! $tournament: Int) {
  dataset(filename: $filename tournament: $tournament)
}"""
ROUND = """
query($tournament: Int!) {
  rounds(tournament: $tournament number: 0) { number openTime closeStakingTime }
}"""
UPLOAD = """
query($filename: String! $tournament: Int! $modelId: String) {
  submission_upload_auth(filename: $filename tournament: $tournament
                         modelId: $modelId) { filename url }
}"""
SUBMIT = """
mutation($filename: String! $tournament: Int! $modelId: String $triggerId: String) {
  create_submission(filename: $filename tournament: $tournament modelId: $modelId
                    triggerId: $triggerId source: "numerapi") { id }
}"""
UPLOAD_MODEL = """
query($filename: String! $modelId: String) {
  computePickleUploadAuth(filename: $filename modelId: $modelId) { filename url }
}"""
SUBMIT_MODEL = """
mutation($filename: String! $tournament: Int! $modelId: String $dataVersionId: String
         $dockerImageId: String) {
  createComputePickleUpload(filename: $filename tournament: $tournament
                            modelId: $modelId dataVersionId: $dataVersionId
                            dockerImageId: $dockerImageId) { id }
}"""
SCORES = """
query($modelId: ID! $tournament: Int $lastNRounds: Int) {
  submissionScores(modelId: $modelId tournament: $tournament
                   lastNRounds: $lastNRounds) {
    roundNumber displayName value percentile day date resolved
  }
}"""
